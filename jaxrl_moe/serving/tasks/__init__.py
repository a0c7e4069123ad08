"""Task apps: whole episodes of a task over HTTP, in which the server calls the policy and a judge."""
