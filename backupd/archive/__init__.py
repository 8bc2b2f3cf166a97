"""Where backups rest: names, records, stores, and the rules by which anything is ever removed."""
