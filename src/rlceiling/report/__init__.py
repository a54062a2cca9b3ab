"""What people look at: plots and numbers in words."""
