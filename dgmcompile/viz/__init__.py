"""Graph -> Graphviz; graphs -> one HTML page. Changes nothing and runs no pass."""
