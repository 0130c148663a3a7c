"""The claims of the reported studies: what each says, how it is tested, what the record answers."""
