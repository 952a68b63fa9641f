// Package spelling finds the word that somebody probably meant.
package spelling

// Near returns the word of a list that differs least from what was typed, in at most two
// letters; "" if there is none.
func Near(typed string, list []string) (word string) {
	least := 3
	for _, w := range list {
		if n := Distance(typed, w); n < least {
			word, least = w, n
		}
	}
	return word
}

// Distance is how many letters have to change, come or go between two words of ASCII
// (Levenshtein).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
