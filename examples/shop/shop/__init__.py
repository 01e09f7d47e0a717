"""A web shop: web.py answers customers, jobs.py has the work that follows."""
