"""Workers: processes of a Python that has another package. Each plays several of its episodes, asked in lines
of JSON over pipes."""
