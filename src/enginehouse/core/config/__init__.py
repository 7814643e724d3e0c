"""Every setting of every part, as frozen structs. One file a part; `base` says how a setting is described."""
