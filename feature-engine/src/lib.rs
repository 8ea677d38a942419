//! Resources as users write them, compiled into a plan that turns an event into feature vectors.
