"""Doctor: whether this machine has all that its role needs, and what to do where it has not.

Each permission is found out by using it, and no use can touch a task. What is asked of a queue is
refused whoever asks: no messages are wanted, a receipt or a body is impossible. That SQS looks at
who asks before it looks at what is asked, so that the refusal tells the two apart, AWS documents;
it is not tried on AWS. What is asked of the table has a condition that never holds, or only reads.
What is written to the bucket lies at a key of the doctor's own. EC2 is asked for a dry run.
"""
