"""The commands of jobs.  Each works on one job, whose id is its `session_id`.  Spec: specs/job.md."""
