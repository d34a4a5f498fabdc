"""What only the notebooks need: experiments, plots, widgets."""
