//! Every sequence.
