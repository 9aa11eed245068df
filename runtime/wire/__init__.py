"""How processes talk: messages and their codec, links with what is unanswered, ZeroMQ at the edge."""
