module privyseal/test/vectors/cases

go 1.26.0
