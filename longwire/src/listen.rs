//! `longwire listen`: a device on the command line.
