"""What people may ask of what is known of them: each verb is a module here."""
