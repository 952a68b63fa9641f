package filestore

// nlink has the type of Stat_t's field.
type nlink = uint64
