"""The pages of documentation: made from the commands where they can be, run where they cannot."""
