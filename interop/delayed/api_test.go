package delayed

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What programs can call is a promise: testdata/api.txt has it, a name a line, and changes only on purpose.
func TestWhatIsExported(t *testing.T) {
	text, err := os.ReadFile("testdata/api.txt")
	must(t, err)
	want, got := strings.Fields(string(text)), exported(t)
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s is exported, and not in testdata/api.txt", name)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s is in testdata/api.txt, and not exported", name)
		}
	}
}

// exported are the names that this package exports, methods as Type.Method.
func exported(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	must(t, err)
	var names []string
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		must(t, err)
		for _, declaration := range file.Decls {
			names = append(names, declared(declaration)...)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		kind, method, _ := strings.Cut(name, ".")
		return !ast.IsExported(kind) || method != "" && !ast.IsExported(method)
	})
	slices.Sort(names)
	return names
}

func declared(declaration ast.Decl) (names []string) {
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			kind := d.Recv.List[0].Type
			if pointer, ok := kind.(*ast.StarExpr); ok {
				kind = pointer.X
			}
			name = kind.(*ast.Ident).Name + "." + name
		}
		names = append(names, name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}
