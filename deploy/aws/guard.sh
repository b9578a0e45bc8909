#!/usr/bin/env bash
# Keeps the worker of this machine while it has jobs or had one lately, lets it finish them when the
# machine must go, and tells CloudWatch how it is. Settings: AWS_DEFAULT_REGION, STACK (namespace of
# the metric), GROUP (the Auto Scaling group), IDLE_MINUTES.
set -u

worker=http://127.0.0.1:8188
metadata=http://169.254.169.254/latest

metadata() {
  local token
  token=$(curl -fsm 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") ||
    return
  curl -fsm 2 -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/$1"
}

must_go() {
  [[ $(metadata autoscaling/target-lifecycle-state) == Terminated ]] ||
    metadata spot/instance-action
}

has_jobs() {
  curl -fsm 5 "$worker/metrics" | grep -q '^unified_api_messages_held [1-9]'
}

protect() {
  local asked=--protected-from-scale-in
  ((idle_seconds < IDLE_MINUTES * 60)) || asked=--no-protected-from-scale-in
  [[ $asked == "$told" ]] && return
  aws autoscaling set-instance-protection --auto-scaling-group-name "$GROUP" \
    --instance-ids "$instance" "$asked" && told=$asked
}

report() {
  # A guard that may not read the metrics protects no job: that is worth an alarm too.
  curl -fsm 5 -o /dev/null "$worker/health" && curl -fsm 5 -o /dev/null "$worker/metrics"
  aws cloudwatch put-metric-data --namespace "$STACK" \
    --metric-name UnhealthyWorkers --value $(($? > 0))
}

until instance=$(metadata instance-id); do sleep 5; done
# A machine that starts is as good as one that was just busy.
round=0 idle_seconds=0 told=
until must_go; do
  has_jobs && idle_seconds=0
  protect
  ((round++ % 12 == 0)) && report
  sleep 5
  ((idle_seconds += 5))
done
# Returns when the worker has drained.
systemctl stop comfyui
aws autoscaling complete-lifecycle-action --auto-scaling-group-name "$GROUP" \
  --lifecycle-hook-name drain --instance-id "$instance" --lifecycle-action-result CONTINUE
