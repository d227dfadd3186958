"""The pages of the service: rendered here, kept up to date by the page asking again."""
