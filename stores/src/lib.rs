//! Starts real etcd, Redis and MariaDB servers in temporary folders, for tests.
