"""The points of a job's life at which the process may die, for fault_points to arm."""

#: point -> where the process dies, and how often the job is executed in all
POINTS = {
    "H1 accepted, not answered": ("jobs.store:Store.insert:after", 1),
    "H2 fetching": ("jobs.inputs:Inputs.fetch:before", 1),
    "H3 executed, end not seen": ("jobs.comfyui:ComfyUI.run:after", 2),
    "H4 rendered, not published": ("jobs.outputs:LocalResults.publish:before", 1),
    "H5 published, not saved": ("jobs.outputs:LocalResults.publish:after", 1),
    "H6 saved, not cleaned up": ("jobs.store:Store.save:after:completed", 1),
}
BEFORE_THE_COMMIT = "jobs.store:Store.insert:before"
