"""`python -m stages.summary`: prints the table of divergences and the paths of all outputs."""

from distort_pipeline.data.evaluations import EvaluationMetrics
from distort_pipeline.reports.evaluation_results import text_table
from stages.face import BUILD

if __name__ == "__main__":
    print("\nJSD_NSS in bits, mean over the validation images:\n")
    print(*text_table(EvaluationMetrics.load(BUILD / "evaluation")), sep="\n")
    print(f"""
corpus             {BUILD / "corpus"}
its report         {BUILD / "corpus" / "index.html"}
evaluation         {BUILD / "evaluation" / "index.html"}
exported images    {BUILD / "export"}""")
