"""Pages for people, and the files that browsers, agents and crawlers fetch."""
