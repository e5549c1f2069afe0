// Makes dockerignore.json beside it: what of a tree Docker takes for many texts of .dockerignore, by the packages that
// a docker client decides with. In a copy of this file elsewhere:
//
//	go mod init table && go mod tidy && go run . >dockerignore.json
package main

import (
	"context"
	"encoding/json"
	gofs "io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
)

var files = strings.Fields(`train.py setup.cfg README.md LICENSE a.b a+b (x) $d {y} Dockerfile foo foobar xfoo é.txt
#note !bang back\slash [br] a-b a]b
src/app.py src/app.pyc src/foo src/util/io.py src/util/io.txt src/util/deep/x.py src/util/deep/foo src/util/deep/er/y.md
data/a.csv data/b.csv data/keep.csv data/sub/c.csv data/sub/keep.csv data/sub/deep/d.csv data/1.bin data/12.bin
docs/README.md docs/index.md docs/foo/a.md docs/foo/bar/b.md docs/xfoo/c.md
foodir/one foodir/bar/two foo.d/three tests/test_a.py tests/data/a.csv node/modules/x.js node/src/y.js`)

var hand = []string{
	"", "*", "**", "/", ".", "..", "!", "#foo", " #note", "\\#note", "!!bang", "\\!bang", "foo", "/foo", "foo/", "./foo", "//foo", "  foo  ", "\tfoo\t", "foo\r\nsrc\r\n",
	"\ufefffoo", "src", "src/", "/src/", "src/*", "src/**", "src/**/", "src/**/foo", "**/foo", "**/foo/", "**foo", "foo**", "f**o", "**/*.py", "*.py", "*/*.py", "*/*/*.py",
	"**/*.md\n!README.md", "*.md\n!README.md", "**/README.md", "*\n!src", "*\n!src/", "*\n!src/**", "*\n!src/util", "*\n!src/util/deep/x.py", "*\n!**/*.py", "**\n!**/*.py", "*\n!*.py", "*\n!/src/*.py",
	"src\n!src/util", "src\n!src/util/deep", "src\n!src/util\nsrc/util/deep", "src\n!src/util\nsrc/util/deep\n!src/util/deep/er", "src/util\n!src", "!src\nsrc/util", "data/*\n!data/keep.csv", "data\n!data/**/keep.csv", "data/**\n!data/**/keep.csv", "!data/keep.csv\ndata",
	"a.b", "a?b", "a*b", "a+b", "(x)", "$d", "{y}", "[br]", "\\[br\\]", "back\\\\slash", "a[-]b", "a[.+]b", "a[^.]b", "a[!.]b", "a[^x]b", "a[+--]b", "a[a-z.]b", "a\\]b", "a]b", "a[]]b", "a[\\]]b", "[", "[a", "a[", "a[]b", "a[b-]", "a[-b]", "a[z-a]b", "foo\\", "[^", "[]a]", "a[\\-.]b", "a[&&.]b", "a[~~.]b", "a[[.]b", "src[^x]app.py",
	"?.txt", "é.txt", "??.txt", "[é].txt", "[^a].txt", "\\$d", "\\(x\\)", "data/?.bin", "data/??.bin", "data/[0-9].bin", "data/[0-9]*.bin", "*/foo", "*/*", "*/*\n!*/foo", "**/util", "**/util/**", "**/deep/**/y.md", "src/**/deep", "src/**/**/x.py", "**/**/x.py", "**/src/**/x.py", "src**", "src**/x.py", "src/**x.py", "s**/deep",
	"docs/../src", "docs/./foo", "docs//foo", "./docs/../foo", "../foo", "/../foo", "!foo", "foo\n!foo", "foo\n!foo\nfoo", "foo*\n!foodir", "foo*\n!foodir/bar", "foo*\n!foodir/bar/two\n", "! src\n", "*\n! src", "*\n!  /src/util", "*\n!./src", "*\n!src/../docs", "# c\n\n\n*\n# d\n!docs\ndocs/foo\n!docs/foo/bar\n", "**/*\n!**/foo", "**/*\n!src/util/**", "**/f*\n!docs/foo", "docs/foo/bar/b.md\n!docs", "docs/foo/bar\n!docs/foo\n", "docs/foo\n!docs\ndocs/*.md", "Dockerfile\n.dockerignore", "*.csv", "**/*.csv\n!data/keep.csv\n!data/sub", "**/data\n!data/sub/deep", "data\n!data/*.csv", "data\n!data/sub/*", "data\n!data/sub/**", "tests/**\n!tests/data/**", "node\n!node/src\n", "node/*\n!node/src", "**/modules/\n", "L*", "[A-Z]*", "[^a-z]*", "*[!a-z]*", "\\foo", "\\d*", "src\\util", "\\f\\o\\o",
}

var atoms = []string{"*", "**", "src", "src/*", "src/**", "src/util", "src/util/*", "**/util", "**/deep", "src/util/deep", "*.py", "**/*.py", "src/*.py", "foo", "**/foo", "*/foo", "foo*", "**/foo*", "docs", "docs/*", "docs/foo", "docs/**/b.md", "**/bar", "*.md", "**/*.md", "data", "data/**", "data/*.csv", "**/*.csv", "**/keep.csv", "data/sub", "data/sub/**", "**/sub/*", "?ata", "[d-f]*", "[^d-s]*", "*/*", "*/*/*", "tests/data", "**/data", "node/*", "*o*", "**/*o*", "a?b", "src/app.py*", "src/util/deep/er/y.md", "foodir/bar/two"}

type item struct {
	File  string `json:"file"`
	Taken string `json:"taken,omitempty"`
	Error bool   `json:"error,omitempty"`
}

func main() {
	root, _ := os.MkdirTemp("", "t")
	defer os.RemoveAll(root)
	set := map[string]bool{}
	for _, f := range files {
		p := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			panic(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			panic(err)
		}
		for q := f; q != "."; q = filepath.Dir(q) {
			set[q] = true
		}
	}
	var all []string
	for p := range set {
		all = append(all, p)
	}
	sort.Strings(all)
	texts := append([]string{}, hand...)
	r := rand.New(rand.NewSource(4))
	for len(texts) < len(hand)+260 {
		var lines []string
		for n := 1 + r.Intn(5); n > 0; n-- {
			l := atoms[r.Intn(len(atoms))]
			if len(lines) > 0 && r.Intn(2) == 0 {
				l = "!" + l
			}
			lines = append(lines, l)
		}
		texts = append(texts, strings.Join(lines, "\n"))
	}
	var cases []string
	for _, text := range texts {
		it := item{File: text}
		taken, err := walk(root, text)
		if err != nil {
			it.Error = true
		} else {
			for _, p := range all {
				if taken[p] {
					it.Taken += "1"
				} else {
					it.Taken += "0"
				}
			}
		}
		b, _ := json.Marshal(it)
		cases = append(cases, "  "+string(b))
	}
	var tree []string
	for _, p := range all {
		st, _ := os.Stat(filepath.Join(root, p))
		if st.IsDir() {
			p += "/"
		}
		b, _ := json.Marshal(p)
		tree = append(tree, string(b))
	}
	os.Stdout.WriteString("{\"origin\": \"github.com/tonistiigi/fsutil FilterFS (what a docker client sends, without a Dockerfile's own exception), github.com/moby/patternmatcher v0.6.1 and its ignorefile, over the tree; one digit per entry of the tree, 1 where it is taken\",\n\"tree\": [" + strings.Join(tree, ", ") + "],\n\"cases\": [\n" + strings.Join(cases, ",\n") + "\n]}\n")
}

func walk(root, text string) (map[string]bool, error) {
	pats, err := ignorefile.ReadAll(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	fs, err := fsutil.NewFS(root)
	if err != nil {
		return nil, err
	}
	fs, err = fsutil.NewFilterFS(fs, &fsutil.FilterOpt{ExcludePatterns: pats})
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	err = fs.Walk(context.Background(), "/", func(p string, _ gofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		taken[p] = true
		return nil
	})
	return taken, err
}
