"""What is due where: fetching what is missing, publishing what is here."""
