"""Self-contained HTML pages: pieces of HTML, plots as inline SVG and one style sheet; no script, no network."""
