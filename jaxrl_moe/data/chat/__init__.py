"""What a chat is: its messages, what a data row's columns say of them, and the template that writes it."""
