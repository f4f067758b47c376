"""An app of the tests whose models have file fields in every way that models can have them."""
