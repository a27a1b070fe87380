"""The recurrent attention model (Mnih et al. 2014, §3), its parts, and its whole-image rivals."""
