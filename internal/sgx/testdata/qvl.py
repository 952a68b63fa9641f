# Judges quotes by dcap-qvl: a line of JSON for each on standard input (quote and root in hex,
# collateral as JSON text, time in seconds), a line of JSON with the verdict for each on
# standard output.
import json
import sys

import dcap_qvl

for line in sys.stdin:
    case = json.loads(line)
    try:
        collateral = dcap_qvl.QuoteCollateralV3.from_json(case["collateral"])
        quote, root, at = bytes.fromhex(case["quote"]), bytes.fromhex(case["root"]), case["at"]
        if root:
            report = dcap_qvl.verify_with_root_ca(quote, collateral, root, at)
        else:
            report = dcap_qvl.verify(quote, collateral, at)
        verdict = {"status": report.status, "advisories": sorted(set(report.advisory_ids))}
    except BaseException as e:  # a panic of Rust is no Exception
        verdict = {"refused": str(e) or type(e).__name__}
    print(json.dumps(verdict))
