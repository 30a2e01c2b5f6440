"""Complete generators and discriminators, one family in each file."""
