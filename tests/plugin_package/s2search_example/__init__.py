"""A third party's plugins, one file each, named as their entry points."""
