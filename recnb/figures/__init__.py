"""Every plot of the project, one module per stage; `style` is shared."""
