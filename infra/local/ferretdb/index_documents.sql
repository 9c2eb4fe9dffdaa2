-- Makes FerretDB 1.24 find documents by key: what it pushes down to PostgreSQL (`_jsonb->field @> value`) only a GIN index answers, and
-- it makes none. To be run by a superuser in FerretDB's database before any collection is made; collections made later get their indexes.
CREATE OR REPLACE FUNCTION public.index_documents() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record; field text;
BEGIN
  FOR made IN SELECT objid, object_identity FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE' LOOP
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = made.objid AND attname = '_jsonb')
       AND made.object_identity NOT LIKE '%\_ferretdb\_%' THEN
      FOREACH field IN ARRAY ARRAY['_id', 'tu', 'ti'] LOOP
        EXECUTE format('CREATE INDEX ON %s USING gin ((_jsonb->%L) jsonb_path_ops) WITH (fastupdate = off)', made.object_identity, field);
      END LOOP;
      -- Whole documents say nothing to the planner, and to gather them takes seconds of a processor, again and again.
      EXECUTE format('ALTER TABLE %s ALTER COLUMN _jsonb SET STATISTICS 0', made.object_identity);
    END IF;
  END LOOP;
END $$;
DROP EVENT TRIGGER IF EXISTS index_documents;
CREATE EVENT TRIGGER index_documents ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.index_documents();
