package flow
import ("testing";"time";"fmt";"github.com/google/cel-go/cel")
func TestZZ(t *testing.T){
 e,_:=language()
 e,_=e.Extend(cel.Variable("params",cel.DynType))
 for _,chk:=range []bool{false,true}{ for _,track:=range []bool{false,true}{
 for _,src:=range []string{`lists.range(N).map(a, "x")`,`lists.range(N).map(a, params + a)`,`lists.range(N).filter(a, a > 5)`,`lists.range(N).map(a, [1].map(b, a+b))`,`lists.range(N).map(a, "x").join("y")`} {
 for _,n:=range []string{"10000","40000"}{
 s:=""
 for _,c:=range src { if c=='N' {s+=n} else {s+=string(c)} }
 ast,iss:=e.Parse(s); if iss.Err()!=nil {t.Fatal(iss.Err())}
 if chk {ast,iss=e.Check(ast); if iss.Err()!=nil {t.Fatal(iss.Err())}}
 opts:=[]cel.ProgramOption{}
 if track {opts=append(opts,cel.CostTracking(meter{}),cel.CostLimit(1e10))}
 p,err:=e.Program(ast,opts...); if err!=nil {t.Fatal(err)}
 st:=time.Now()
 _,d,err:=p.Eval(map[string]any{"params":int64(1)})
 var c any; if track {c=*d.ActualCost()}
 fmt.Println(chk,track,s,time.Since(st),err,c)
 }}}}
}
