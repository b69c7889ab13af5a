"""MySQL and MariaDB users with passwords."""
