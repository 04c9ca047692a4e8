"""SeqMatch: align language models from demonstrations alone."""

__version__ = "0.1.0"
