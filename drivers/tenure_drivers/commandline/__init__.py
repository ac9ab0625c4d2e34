"""The command line: it reads, shows and supervises; what anything means is the kernel's to say."""
