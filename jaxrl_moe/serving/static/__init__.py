"""What the pages share: colours, elements, charts."""
