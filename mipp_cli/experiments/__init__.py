"""The paper's figures and tables, reproduced on a data set."""
