-- The product catalog of the retail data as a table of PostgreSQL, from which configs/retail/catalog.json fills the topic
-- catalog.products. Needs wal_level = logical. Run it in the database that owns the catalog (here: retail):
--
--   createdb retail
--   psql -d retail -f configs/retail/schema.sql
--   zcat configs/demo/data/products.csv.gz | psql -d retail -c "\copy products FROM STDIN (FORMAT csv, HEADER, FORCE_NOT_NULL (package_size))"

CREATE TABLE products (
    product_id       text PRIMARY KEY,
    manufacturer_id  text,
    department       text,
    brand            text,
    product_category text,
    product_type     text,
    package_size     text
);

-- The role that the connector connects as, and what it may do: read the table and replicate. The publication is made here, so
-- the role needs no right to make it. Give the role its password with \password millrace.
CREATE ROLE millrace LOGIN REPLICATION;
GRANT USAGE ON SCHEMA public TO millrace;
GRANT SELECT ON products TO millrace;
CREATE PUBLICATION millrace_catalog FOR TABLE products;
