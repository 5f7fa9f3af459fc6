package root

var OpenSlowly = openSlowly
