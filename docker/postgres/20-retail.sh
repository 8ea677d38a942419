#!/bin/bash
# The products, and the password of the role that the connector connects as.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -c "ALTER ROLE millrace PASSWORD 'millrace'"
zcat /retail/products.csv.gz |
    psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
        -c "\copy products FROM STDIN (FORMAT csv, HEADER, FORCE_NOT_NULL (package_size))"
