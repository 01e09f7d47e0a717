"""Tools for operators: inspects queues, checks their keys, and diagnoses servers."""
