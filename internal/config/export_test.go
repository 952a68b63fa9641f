package config

// For the tests in config_test, which know providers.

const MaxFileSize = maxFileSize

// AllKeys returns all keys there are.
func (k Kinds) AllKeys() map[string]string { return k.types() }
