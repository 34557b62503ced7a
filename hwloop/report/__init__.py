"""Pages: the report of a study (`html`), the curves of a latency table (`table`)."""
