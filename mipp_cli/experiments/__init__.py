"""The paper's figures and tables, measured on a data set of one's own."""
