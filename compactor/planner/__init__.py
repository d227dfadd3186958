"""Pure planning: an inventory and a policy in, a plan with its price out."""
