"""What we tell people: terminal, HTML, model card."""
