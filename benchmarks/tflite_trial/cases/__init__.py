"""What is converted: one module for each family.  Importing one registers its cases."""
