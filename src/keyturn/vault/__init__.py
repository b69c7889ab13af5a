"""The vault: seals and opens bytes. Storage keeps the rows, this package never sees the database."""
