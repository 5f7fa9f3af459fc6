//go:build linux

package main

import (
	"reflect"
	"testing"
)

func TestPlaceSchema(t *testing.T) { namesAll(t, "place", reflect.TypeFor[placeDocument]()) }
